"Settings: an experiment, the papers' rows, the sizes at which they are run."
