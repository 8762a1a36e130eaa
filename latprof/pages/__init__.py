"""What is made of folders for people to look at: the HTML page of a run, a sweep or a comparison, its pictures, and how to make it again."""
