"""Whether this machine is fit for training: one line a subject, each with the fix if something is wrong."""
