"""From a submitted project to a live release: the pipeline."""
