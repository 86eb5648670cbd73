"""Runs of verbs on other devices, over ssh, adb, containers, or in a folder of this machine.

One connection carries one run. `agent` is sent to the device and does there what it is told;
`connection` starts it and speaks with it; `transfer` copies files by hash; `environment` chooses
the wheels for the device; `run` is the life of a run, from the lock to the removal of its files.
"""
