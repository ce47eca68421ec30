"""Let any node of a pool move data for its manager: docs/formats/data-jobs.md."""
