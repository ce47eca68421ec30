"""Put kernel, initrd and root into one file: CD, stick and disk, BIOS and UEFI.

    El Torito    BIOS from CD                   grub, made of Debian's modules
    MBR          BIOS from a stick or disk      the same
    ESP          UEFI from all of them          Debian's signed shim and grub
    LiveOS/root.img, boot/vmlinuz, boot/initrd.img, boot/grub/grub.cfg

Source: xorriso's documentation of mkisofs emulation, GRUB's manual, "Making a GRUB
bootable CD-ROM", whose hybrid MBR is used here.
"""

import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from imagebuild import programs
from imagebuild.recipe import Recipe

LABEL: Final = "SKERRY"
_ESP_BYTES: Final = 4 << 20
_ESP_LABEL: Final = "SKERRY-EFI"  # another one: the root is found by its label
_GRUB_MODULES: Final = (
    "biosdisk iso9660 part_gpt part_msdos fat ext2 normal linux configfile search"
    " search_label search_fs_file serial echo test loadenv boot minicmd halt reboot"
)
_MENU: Final = """\
serial --unit=0 --speed=115200
terminal_input console serial
terminal_output console serial
set timeout={timeout}
set default=0
search --no-floppy --set=root --label {label}
set words="{words}"
if [ -f ($root)/boot/grub/own.cfg ]; then source ($root)/boot/grub/own.cfg; fi
menuentry "Skerry {version}" {{
  linux /boot/vmlinuz $words $own
  initrd /boot/initrd.img
}}
"""
_FIND_MENU: Final = """\
search --no-floppy --set=root --label {label}
set prefix=($root)/boot/grub
configfile ($root)/boot/grub/grub.cfg
"""


@dataclass(frozen=True, slots=True)
class Parts:
    kernel: Path
    initrd: Path
    root: Path
    loaders: Path  # where the packages of boot loaders were unpacked


def make(
    recipe: Recipe, parts: Parts, work: Path, target: Path, version: str, epoch_s: int
) -> None:
    """Make the file."""
    tree = work / "tree"
    shutil.rmtree(work, ignore_errors=True)
    for each in ("LiveOS", "boot/grub", "EFI/debian"):
        (tree / each).mkdir(parents=True)
    # Links: the parts are large, and are only read.
    os.link(parts.root, tree / "LiveOS/root.img")
    shutil.copyfile(parts.kernel, tree / "boot/vmlinuz")
    os.link(parts.initrd, tree / "boot/initrd.img")
    menu = _MENU.format(
        label=LABEL,
        timeout=recipe.menu_timeout_s,
        words=recipe.kernel_arguments,
        version=version,
    )
    (tree / "boot/grub/grub.cfg").write_text(menu)
    modules = parts.loaders / "usr/lib/grub/i386-pc"
    programs.run(
        [
            *("grub-mkimage", "-O", "i386-pc-eltorito", "-d", modules),
            *("-p", "/boot/grub", "-o", tree / "boot/grub/eltorito.img"),
            *_GRUB_MODULES.split(),
        ]
    )
    esp = _make_esp(parts.loaders, work, epoch_s)
    for folder, folders, files in os.walk(tree):
        for name in (*folders, *files):
            os.utime(os.path.join(folder, name), (epoch_s, epoch_s))
    stamp = time.strftime("%Y%m%d%H%M%S00", time.gmtime(epoch_s))
    words: list[str | Path] = [
        *("xorriso", "-as", "mkisofs", "-quiet", "-r", "-J", "-V", LABEL),
        *("-o", target, f"--modification-date={stamp}"),
        *("--set_all_file_dates", stamp),
        *("-b", "boot/grub/eltorito.img", "-no-emul-boot"),
        *("-boot-load-size", "4", "-boot-info-table", "--grub2-boot-info"),
        *("--grub2-mbr", modules / "boot_hybrid.img", "-partition_offset", "16"),
        *("-append_partition", "2", "0xef", esp, "-appended_part_as_gpt"),
        *("-eltorito-alt-boot", "-e", "--interval:appended_partition_2:all::"),
        *("-no-emul-boot", tree),
    ]
    programs.run(words, environment={"SOURCE_DATE_EPOCH": str(epoch_s)})


def _make_esp(loaders: Path, work: Path, epoch_s: int) -> Path:
    """Make the file system that UEFI boots from."""
    esp, find = work / "esp.img", work / "grub.cfg"
    find.write_text(_FIND_MENU.format(label=LABEL))
    shim = loaders / "usr/lib/shim/shimx64.efi.signed"
    grub = loaders / "usr/lib/grub/x86_64-efi-signed/gcdx64.efi.signed"
    with esp.open("wb") as file:
        file.truncate(_ESP_BYTES)
    stamp = time.strftime("%Y%m%d", time.gmtime(epoch_s))
    environment = {"SOURCE_DATE_EPOCH": str(epoch_s)}
    label: list[str | Path] = [
        "mformat",
        "-i",
        esp,
        "-N",
        stamp,
        "-v",
        _ESP_LABEL,
        "::",
    ]
    programs.run(label, environment=environment)
    folders = ("::/EFI", "::/EFI/BOOT", "::/EFI/debian", "::/boot", "::/boot/grub")
    programs.run(["mmd", "-i", esp, *folders], environment=environment)
    placed = {
        "EFI/BOOT/BOOTX64.EFI": shim,
        "EFI/BOOT/grubx64.efi": grub,
        "EFI/debian/grub.cfg": find,
        "boot/grub/grub.cfg": find,
    }
    for name, source in placed.items():
        os.utime(source, (epoch_s, epoch_s))
        copy: list[str | Path] = ["mcopy", "-m", "-i", esp, source, f"::/{name}"]
        programs.run(copy, environment=environment)
    return esp
