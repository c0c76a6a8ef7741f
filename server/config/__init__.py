"""Every setting: one class, put together from a file for each subject."""
