"""Tuning: the fastest settings of a bundle on this device, each gain measured and confirmed.

tune -> search -> trials -> a fresh process per candidate and round
`-> parameters
"""
