"Runs on disk: records, packed evidence, the queue of what is left."
