"""What the commands do, one file each: `latprof.cli` reads the flags, these do the work and print."""
