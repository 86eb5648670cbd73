"""Latency, memory and energy of bundles on this device, with confidence intervals.

    bundles, matrix                                                     tune(bundle)
       |                                                                    |
       v                                                                    v
    measure/    plan -> schedule -> a fresh process per trial           tuning/
       |                  ^                                             search of settings, in
       |               device/   fingerprint, sensors, disturbances     the same kind of processes
       v
    statistics  percentiles and intervals over trials
       |
       v
    report/     BenchmarkReport -> JSON, Markdown, HTML, terminal
       |
       +-> compare_reports   slower than before? (exit code 4)
       +-> fit/              the bundle and settings that meet budgets (runs the left column)
       `-> budget            within the limits?  (exit code 5)

`benchmark` runs the left column. `report/records.py` is the contract: all that is measured is
stored in its classes, all that is displayed is made from them.
"""
