"From an experiment to a record: one process or many, one machine or a cluster."
