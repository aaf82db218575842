"""What everything stands on: settings, files, chance, processes, text. Nothing here imports torch
when it is imported."""
