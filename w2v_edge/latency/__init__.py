"""How long a bundle takes on this device, what it takes in memory and energy, and how sure that is.

    cases -> trials, each a process of its own -> report -> terminal, JSON, Markdown, HTML
                                                    `-> comparison, budgets

`report.py` is the contract: everything that is measured lands in it, everything that is shown is
made from it.
"""
