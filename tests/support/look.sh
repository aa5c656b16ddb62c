# What a step can see and do, as lines NAME=VALUE. Its argument is where they go.
out=$1
fds=; for f in /proc/$$/fd/*; do fds="$fds ${f##*/}:$(readlink $f)"; done
pids=; for p in /proc/[0-9]*; do pids="$pids ${p##*/}"; done
mounts=$(cat /proc/self/mountinfo)
say() { printf '%s=%s\n' "$1" "$2"; }
{
say pid $$
say process "$pids"
say files "$fds"
say folder "$(pwd)"
say umask "$(umask)"
say hostname "$(hostname)"
say terminal "$(tty)"
env | sort | while read -r line; do say env "$line"; done
while read -r name value; do say status "$name $value"; done < /proc/self/status
while read -r line; do say group "$line"; done < /proc/self/gid_map
for kind in mnt pid ipc uts cgroup net user time; do say namespace "$kind $(readlink /proc/self/ns/$kind)"; done
while read -r line; do say limit "$line"; done < /proc/self/limits
echo "$mounts" | while read -r line; do say mount "$line"; done
for n in /dev/* /dev/pts/*; do
  if [ -L $n ]; then say device "$n -> $(readlink $n)"; else say device "$n $(stat -c '%F %a %u:%g %t:%T' $n)"; fi
done
for n in null zero full random urandom; do head -c 1 /dev/$n >/dev/null 2>&1 && say opens $n; done
for d in /made /dev/made /dev/shm/made; do
  mknod $d c 1 5 2>/dev/null && say made $d && head -c 1 $d >/dev/null 2>&1 && say opens $d
  rm -f $d
done
for p in $MASKED; do
  if [ ! -e $p ]; then say masked "$p closed"
  elif [ -d $p ]; then [ -z "$(ls -A $p)" ] && say masked "$p closed" || say masked "$p open"
  else [ "$(stat -c %t:%T $p)" = 1:3 ] && say masked "$p closed" || say masked "$p open"
  fi
done
for p in /proc/sys/kernel/domainname /proc/sysrq-trigger /proc/irq/default_smp_affinity /sys/fs/cgroup/made /sys/made /proc/self/oom_score_adj; do
  case "$( (: >> $p) 2>&1)" in
    '') say writes "$p" ;;
  esac
done
for n in current apparmor/current; do say label "$n $(cat /proc/self/attr/$n 2>/dev/null)"; done
say oom "$(cat /proc/self/oom_score_adj)"
say keys "$(cat /proc/keys 2>/dev/null)"
say hosts "$(cat /etc/hosts | tr '\n\t' '| ')"
say resolv "$(md5sum < /etc/resolv.conf)"
say calls "$(/probe/calls64 | od -An -v -t d4 | tr -s '\n ' '  ')"
say calls32 "$(/probe/calls32 | od -An -v -t d4 | tr -s '\n ' '  ')"
} > "$out"
