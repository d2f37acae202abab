"""Studies on the embedded world and on planted features, whose truth is known.

Each module asks one question and answers with tables; `launch.evidence` runs them all and writes
`docs/evidence.md` from them.
"""
