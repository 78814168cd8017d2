"""What bench/run.sh runs: parts that measure, peers that they measure against, and the document made of it.

Each part is a module of `suite.parts` (see its `__init__`). A part puts what it saw into the results file; the
document is made from that file, so one part can be measured again without the others.
"""
