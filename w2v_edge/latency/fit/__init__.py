"""The bundle and settings with the most similar outputs among those that meet budgets on a device.

fit -> similarity  outputs of each bundle against the most exact one
  |  -> choice      points, and which of them meet the budgets: measured ones only
  `-> benchmark     rounds of trials, for as long as a better point is unclear
"""
