"""Make one layer of several that compute something linear of the same input."""
