"""Raw time stamps in columns, and the run folder that loses nothing that was flushed."""
