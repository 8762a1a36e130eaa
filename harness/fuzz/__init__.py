"""The client's parsers under a fuzzer that looks at the code it reaches: any bytes, cut anywhere, say the same and never crash it.

__main__.py   the command: installs the fuzzer, runs it on every parser, and on one that was made wrong
inside.py     the fuzzer's own process, one for each parser
parsers.py    what is held against what: one function from bytes per parser, which raises where two ways to read them disagree
seeds.py      real streams, to begin from
"""
