"""The `bodega` command, a file per command: up, status, demo, verify, events, migrate, probe.

`up` runs the shop: `shop.Shop` says which programs that is, `supervisor.Supervisor` keeps any programs alive.
Both are made for tests as well as for the command.
"""
