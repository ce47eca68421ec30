#!/bin/busybox sh
# PID 1 of the lab's guest: a real Linux small enough to boot in seconds under
# emulation. What it says on the serial console begins with LABGUEST.
/bin/busybox mkdir -p /proc /sys /dev /run /tmp /www /etc/acpi/PWRF
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox --install -s /bin
export PATH=/sbin:/usr/sbin:/bin
mkdir -p /dev/pts
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /run

while read -r module; do
    insmod "/lib/modules/$module" 2>/dev/null
done </lib/modules/order

hostname labguest
ip link set lo up
for card in /sys/class/net/eth*; do
    [ -e "$card" ] && ip link set "${card##*/}" up
done
[ -e /sys/class/net/eth0 ] &&
    udhcpc -i eth0 -b -t 30 -T 2 -A 5 -S -s /sbin/dhcp-event >/dev/null 2>&1 &

for port in /sys/class/virtio-ports/*; do
    [ "$(cat "$port/name" 2>/dev/null)" = org.qemu.guest_agent.0 ] &&
        qemu-ga -d -m virtio-serial -p "/dev/${port##*/}" -f /run/qga.pid -t /run
done

# The kernel calls the power button's events by either name.
printf '#!/bin/sh\nexec poweroff -f\n' >/etc/acpi/PWRF/00000080
chmod 755 /etc/acpi/PWRF/00000080
ln -s 00000080 /etc/acpi/PWRF/00000001
acpid -d >/dev/null 2>&1 &

# A counter that only a guest that never stopped keeps counting.
( n=0; while :; do n=$((n + 1)); echo "$n" >/www/tick.new; mv /www/tick.new /www/tick; sleep 1; done ) &
echo labguest >/www/index.html
httpd -h /www -p 80

echo "LABGUEST ready at $(cut -d' ' -f1 /proc/uptime) s" >/dev/console
[ -e /dev/tty1 ] && (while :; do setsid getty -n -l /bin/sh 38400 tty1; sleep 1; done) &
[ -e /dev/ttyS0 ] && (while :; do setsid getty -L -n -l /sbin/ask 115200 ttyS0 vt100; sleep 1; done) &
while :; do wait; sleep 1; done
