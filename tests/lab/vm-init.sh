#!/bin/busybox sh
# First program of the throw-away VM: the machine's own root, under a layer that is
# forgotten; then the second half of this file, with the machine's own programs.
bb=/bin/busybox
$bb mount -t devtmpfs dev /dev
$bb mount -t proc proc /proc
$bb mount -t sysfs sys /sys
while read -r module; do
    $bb insmod "/lib/modules/$module"
done </lib/modules/order
$bb mount -t virtiofs -o ro machine /machine &&
    $bb mount -t tmpfs layer /layer &&
    $bb mkdir /layer/upper /layer/work &&
    $bb mount -t overlay -o lowerdir=/machine,upperdir=/layer/upper,workdir=/layer/work \
        root /root || $bb poweroff -f
for folder in dev proc sys; do
    $bb mount --move "/$folder" "/root/$folder"
done
$bb cp /vm-main.sh /vm-command.sh /root/
exec $bb switch_root /root /bin/bash /vm-main.sh
