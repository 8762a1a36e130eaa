"""Trace formats, one file each: a file becomes outlines of sessions, or a message with the file and the line."""
