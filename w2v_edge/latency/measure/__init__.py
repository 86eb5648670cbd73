"""Measuring: the plan of cases, the schedule of trials, and what happens in a trial's process.

    plan -> schedule -> processes -> trial -> scenarios
            `-> inputs               `-> energy, memory

Processes that are measured import this package: its modules other than `plan`, `inputs` and
`schedule` must not import psutil, click or rich, which would count as the model's memory.
"""
