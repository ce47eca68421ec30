"""Ask things of nodes, remember what was asked, and see it through."""
