"""The bundle and the settings that meet budgets on a device at the least loss of likeness.

fit -> likeness     outputs of each bundle against the most exact one
  |  -> choice      points, and which of them meet the budgets: measured ones only
  `-> benchmark     rounds of trials, for as long as a better point is unclear
"""
