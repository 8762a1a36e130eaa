"""Values to terminal and JSON; every renderer shares one `Report`."""
