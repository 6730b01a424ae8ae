# Makes this process's mounts those of another machine: what it writes to its system stays below the directory $1.
set -eu
root=$1

# Runtimes change their root, which must be a mount for that, and in a chroot is none: what is the root here becomes one.
# Entering the mounts once more leads out of a chroot, to where all of them can be kept from others.
exec 3</
exec nsenter --mount=/proc/self/ns/mnt sh -eu -c '
here=$(readlink /proc/self/fd/3)
mount --make-rprivate /
mkdir -p "$here$1/root"
mount --rbind "$here" "$here$1/root"
cd "$here$1/root"
mount --move . /
exec chroot . sh -eu -c "$2" sh "$1"
' sh "$root" '
root=$1
mount -t proc proc /proc
mkdir -p "$root/run" "$root/docker" "$root/containers"
mount --bind "$root/run" /run
for place in etc opt usr var/lib; do
    mkdir -p "$root/changed/$place" "$root/work/$place"
    mount -t overlay overlay -o "lowerdir=/$place,upperdir=$root/changed/$place,workdir=$root/work/$place" "/$place"
done
# Layers of images need a place that is no overlay itself.
mkdir -p /var/lib/docker /var/lib/containers
mount --bind "$root/docker" /var/lib/docker
mount --bind "$root/containers" /var/lib/containers
if [ ! -e /sys/fs/cgroup/memory ] && [ ! -e /sys/fs/cgroup/cgroup.controllers ]; then
    mount -t tmpfs cgroup /sys/fs/cgroup
    for controller in $(awk "NR > 1 && \$4 == 1 { print \$1 }" /proc/cgroups); do
        mkdir "/sys/fs/cgroup/$controller"
        mount -t cgroup -o "$controller" cgroup "/sys/fs/cgroup/$controller"
    done
fi
touch /run/booted
exec tini -s -- sleep infinity 3<&-
'
