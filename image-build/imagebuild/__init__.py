"""Build the node image: recipe → root file system → one file that boots every way.

    recipe     what the *.ks files say                                      (pure)
    lock       the exact packages, with their checksums                     (pure)
    archive    resolve a recipe's packages, fetch and check them
    rootfs     install them into a folder
    product    put the agent in
    pruning    what is dropped of it, and why                               (pure)
    modules    which kernel modules stay                                    (pure)
    initrd, squash, hybrid    kernel side, root, and the file with both
    manifest   what takes the space, and what is in it
    build      the stages in their order

`python -m imagebuild` is the command; `make image` calls it.
"""
