"""`bentpipe bench`: what the packet path does on this machine, as ratios to what the kernel does in the same run.

Read `measures.py` first (what is measured, and in which order), then `baselines.py` (what it is compared with),
`emulated.py` (the same load through a bench), and `rows.py` (from trials to the table, without I/O).
"""
