"""Is it true? What the embedded world and planted features, which know the truth, say of it.

Each module asks one question and answers with tables; `launch.evidence` runs them all and writes
`docs/evidence.md` from them.
"""
