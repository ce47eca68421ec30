"""Boot the built image as users do: from CD, stick and disk, by BIOS and UEFI.

Emulated, so that no test depends on KVM. What each machine showed on its screen and its
serial port is kept in build/image/boot.
"""
