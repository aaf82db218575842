"The command `snn-repro`."
