"""A pool and its manager (SPM): who may write its structure, and what that keeps."""
