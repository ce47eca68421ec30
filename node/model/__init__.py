"""What a node and a fleet are made of: frozen dataclasses and enums.

Standard library only. What travels or is stored is written by `node.wire`.
"""
