# Makes this process's mounts those of another machine: what it writes to its system stays below the directory $1.
set -eu
root=$1

# Runtimes change their root, which must be a mount for that. In a chroot it is none.
mount --make-rprivate /
mkdir -p "$root/root"
mount --rbind / "$root/root"
cd "$root/root"
mount --move . /
exec chroot . sh -eu -c '
root=$1
mount -t proc proc /proc
mkdir -p "$root/run" "$root/docker" "$root/containers"
mount --bind "$root/run" /run
for place in etc usr var/lib; do
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
exec tini -s -- sleep infinity
' sh "$root"
