"""A gate told: its values, and what a terminal, Markdown, JUnit and other programs get of them; what a baseline keeps."""
