# PID 1 of the throw-away VM, once the machine's root is its own; run by bash.
# Serial ports: the kernel's console, the command's output, its errors, its status.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HOME=/root LANG=C.UTF-8 TERM=dumb
mkdir -p /dev/pts /dev/shm
mount -t tmpfs run /run
mount -t devpts devpts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir -p /run/lock /run/rpcbind /run/sendsigs.omit.d
version=$(uname -r)
for modules in "$KERNEL_ROOT"/{,usr/}lib/modules/"$version"; do
    if [ -d "$modules" ]; then
        mkdir -p "/usr/lib/modules/$version"
        mount --bind "$modules" "/usr/lib/modules/$version"
    fi
done
for port in 1 2 3; do
    stty -F /dev/ttyS$port raw
done
ip link set lo up
hostname vm
cd /root || exit
( . /vm-command.sh ) </dev/null >/dev/ttyS1 2>/dev/ttyS2
echo "status $?" >/dev/ttyS3
sync
echo o >/proc/sysrq-trigger
sleep 60
