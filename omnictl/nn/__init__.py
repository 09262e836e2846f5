"""Building blocks that know no task: transformer layers, mixture of experts, chunked cross-entropy."""
