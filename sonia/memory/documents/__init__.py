"""Documents: files read into chunks, which are memories that know where they stand."""
