/**
 * The script that runs on the server, in a POSIX shell. It is sent as text: it examines the device
 * and the abilities of the system's dd, then takes commands line by line and runs dd for each
 * ([SYS] fig. 13). A command of 4 KiB takes 1.3 to 1.7 ms in this loop; a new `ssh HOST dd` for
 * each command takes 319 ms (docs/notes/ssh.md, "One session"). Nothing is stored on the server.
 *
 * The login shell sees only {@link startCommand}, which means the same to sh, csh and fish. The
 * script arrives on standard input as one line, which `read` takes. So no shell parses a name or a
 * path of the user: those are octal escapes of printf.
 *
 * Every line that the script prints begins with a random marker. The script joins the marker from
 * two halves, so that a shell that echoes its input does not print it.
 *
 *     > R id unit skip count records     < the bytes, then "MARKER id ok"
 *     > W id unit seek count records     and the bytes; < "MARKER id ok"
 *     > Z id unit seek count records     zeroes; < "MARKER id ok"
 *     > F id                             flush; < "MARKER id ok"
 *     > K id token pid group             ends an earlier session; < "MARKER id WORD":
 *                                        "gone", "alive" or "unknown"
 *     > S MARKER nonce                   < "MARKER sync nonce idle"
 *
 * `records` is the number that dd prints when it has moved everything ("16+0 records in"). If dd
 * prints another number or fails, the script answers "MARKER id error STATUS MESSAGE". From then on
 * it skips all input up to an S line, and answers "MARKER sync nonce skipped". So neither a short
 * read nor a failed write can shift the stream. The marker and the nonce are secret, so data that a
 * guest writes cannot imitate that line.
 */
import { hexOf } from '../../base/hex.js';

/**
 * The random names of a session: the token marks its processes in process lists, the marker begins
 * its lines of output.
 */
export interface SessionNames {
  /** [a-z0-9-] */
  readonly token: string;
  /** [a-z0-9], an even number of characters. */
  readonly marker: string;
}

export interface ScriptOptions {
  readonly path: string;
  readonly readOnly: boolean;
  readonly names: SessionNames;
}

/** Length of random names, in bytes: 128 bits. */
const nameBytes = 16;

export function newNames(): SessionNames {
  return { token: `farbus-${randomHex()}`, marker: randomHex() };
}

/** True if `text` has the form of a token that {@link newNames} makes. */
export function isToken(text: string): boolean {
  return /^farbus-[0-9a-f]{32}$/.test(text);
}

export function randomHex(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(nameBytes));
  return hexOf(bytes);
}

/**
 * The command for the login shell. No part of it comes from the user.
 * @param prefix "sudo -n --", "doas -n --" or ''
 */
export function startCommand(token: string, prefix = ''): string {
  // Without newlines, !, \ and nested quotes, which do not mean the same to every shell.
  return `exec ${prefix}${prefix === '' ? '' : ' '}sh -c 'IFS= read -r x;eval "$x"' ${token}`;
}

/** Sets the variable `name` to any text, in a POSIX shell, by printf with octal escapes. */
export function assign(name: string, text: string): string {
  let format = '';
  for (const byte of new TextEncoder().encode(text)) {
    const char = String.fromCharCode(byte);
    format += /[A-Za-z0-9_./-]/.test(char) ? char : `\\${byte.toString(8).padStart(3, '0')}`;
  }
  // Command substitution drops trailing newlines: the final dot protects them. The leading x keeps
  // printf from taking a "-" as an option.
  return `${name}=$(printf 'x${format}.'); ${name}=\${${name}#x}; ${name}=\${${name}%.};`;
}

/** The script as one line, including its newline. */
export function script({ path, readOnly, names }: ScriptOptions): string {
  const half = names.marker.length / 2;
  const text = [
    `m=${names.marker.slice(0, half)}''${names.marker.slice(half)};`,
    assign('f', path),
    `ro=${readOnly ? 1 : 0};`,
    ...preamble,
    ...look,
    ...abilities,
    ...report,
    ...fence,
    ...loop,
  ].join(' ');
  return `${text}\n`;
}

const preamble = [
  // Messages of the system are matched in English.
  'LC_ALL=C; export LC_ALL; unset LANGUAGE;',
  // The directories of the administrator's programs (blockdev).
  'PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin; export PATH;',
  // Every process that the script starts carries the session's name.
  'FARBUS_SESSION=$0; export FARBUS_SESSION;',
  "exec 3>&1 2>/dev/null; set -f; umask 077; n=$(printf '\\n.'); n=${n%.};",
  // flat: puts any text on one line.
  'flat() { IFS=" $n"; set -- $1; v="$*"; };',
  'IFS=" $n";',
  'die() { flat "$2"; printf \'\\n%s fail %s %s\\n\' "$m" "$1" "$v"; exit 1; };',
];

/** Examines the device: its type, whether it is writable, its size. */
const look = [
  'command -v dd >/dev/null || die nodd; [ -d "$f" ] && die folder;',
  // Exclude pipes: opening one would wait for a writer.
  't=; [ -f "$f" ] && t=f; [ -b "$f" ] && t=b; [ -c "$f" ] && t=c; [ -z "$t" ] && [ -e "$f" ] && die kind;',
  'e=$( (: <"$f") 2>&1 ); [ -z "$t" ] && die missing "$e"; [ -z "$e" ] || die denied "$e";',
  'w=0; if [ $ro = 0 ] && ( : <>"$f" ); then w=1; exec 5<>"$f"; else exec 5<"$f"; fi;',
  // Access by descriptor stays with the same device even if its name changes, and cannot create a
  // file by mistake.
  'd=/proc/self/fd/5; dd if=$d of=/dev/null bs=1 count=0 || d=$f;',
  's=; b=; q=; i=; hw=; dm=; part=;',
  'case $t in',
  'f) s=$(stat -Lc %s "$f") || s=$(stat -Lf %z "$f") || s=$(wc -c <"$f");;',
  '*) s=$(blockdev --getsize64 "$f"); b=$(blockdev --getss "$f");',
  'if [ -z "$s" ]; then l=$(readlink -f "$f"); { read -r s </sys/class/block/${l##*/}/size; } && s=$((s * 512)); fi;',
  'if [ -z "$s" ]; then set -- $(diskinfo "$f"); b=$2; s=$3; fi;',
  'if [ -z "$s" ]; then s=$(diskutil info "$f" | sed -n "s/.*Disk Size:.*(\\([0-9]*\\) Bytes).*/\\1/p"); fi;',
  'if [ -z "$s" ]; then s=$(lsblk -bdno SIZE "$f"); fi;;',
  'esac; flat "$s"; s=$v; flat "$b"; b=$v;',
  // A file is recognised by its inode and birth time, if stat reports both: GNU and BSD do, BusyBox
  // does not.
  '[ $t = f ] && { i=$(stat -Lc %i:%.9W "$f") || i=$(stat -Lf %i:%B "$f"); }; flat "$i"; i=$v;',
  // Linux numbers every medium that it has seen (diskseq). It also tells which file systems are
  // mounted and which devices other volumes use.
  'us=; if [ $t = b ]; then set -- $(stat -Lc "0x%t 0x%T" "$f"); e=$(($1)):$(($2)); e1=/sys/dev/block/$e;',
  '{ read -r part <$e1/partition; } && e1=$e1/..; { read -r q <$e1/diskseq; };',
  '{ read -r hw <$e1/wwid; } || { read -r hw <$e1/device/wwid; } || { read -r hw <$e1/serial; } || read -r hw <$e1/device/serial;',
  '{ read -r dm </sys/dev/block/$e/dm/uuid; };',
  'l=" $e "; set +f; for a in /sys/dev/block/$e/*/dev; do { read -r v <"$a"; } && l="$l$v "; done;',
  'for a in /sys/dev/block/$e/holders/* /sys/dev/block/$e/*/holders/*; do [ -e "$a" ] && us="a part of ${a##*/}"; done; set -f;',
  '{ while read -r a b2 c v e; do case "$l" in *" $c "*) us=mounted;; esac; done </proc/self/mountinfo; }; fi;',
];

/** Finds the abilities of this dd, the method of flushing, and the method of finding processes. */
const abilities = [
  'g=0; case "$n$(printf abc | dd bs=2 skip=1 count=1 iflag=skip_bytes,count_bytes,fullblock 2>&1)" in *b*"${n}1 byte"*) g=1;; esac; gw=0;',
  'k=0; [ "$(printf ab | dd bs=2 count=1 iflag=fullblock)" = ab ] && k=1;',
  'u=0; y=none; r=; z=; bs=bs=; w1=conv=notrunc;',
  'if [ $w = 1 ]; then',
  'dd if=/dev/null of="$d" bs=2 seek=1 count=0 oflag=seek_bytes conv=notrunc && u=1;',
  'dd if=/dev/null of="$d" bs=1 count=0 conv=notrunc,nocreat && w1=conv=notrunc,nocreat;',
  'if dd if=/dev/null of="$d" bs=1 count=0 $w1,fsync; then y=fsync;',
  // If sync ignores its file argument, it also succeeds for a missing file. Then it is not used.
  'elif ! sync "/nonexistent/$0" && sync "$d"; then y=sync; fi; fi;',
  '[ $g = 1 ] && r=iflag=skip_bytes,count_bytes,fullblock; [ $g$k = 01 ] && r=iflag=fullblock;',
  'if [ $g$u = 11 ]; then gw=1; z="iflag=count_bytes,fullblock oflag=seek_bytes"; elif [ $k = 1 ]; then z=iflag=fullblock; else bs="ibs=1 obs="; fi;',
  'p=none; o=;',
  // The brackets in the pattern keep grep from finding its own command line.
  'pattern() { v=${1%?}[${1##"${1%?}"}]; };',
  'pattern "$0"; if grep -l "$v" /proc/$$/cmdline >&2 && grep -l "$v" /proc/self/environ >&2; then p=proc;',
  'elif ps -A -o pid= -o ppid= -o pgid= -o args= | grep -q "$v"; then p=ps; o=$(ps -o pgid= -p $$); fi; flat "$o"; o=$v;',
  'h=; { read -r h </etc/machine-id; } || h=$(uname -n); flat "$h"; h=$v;',
  // Not kern.boottime: it changes when the clock is set.
  'x=; { read -r x </proc/sys/kernel/random/boot_id; } || x=$(sysctl -n kern.bootsessionuuid) || x=$(sysctl -n kern.boot_id); flat "$x"; x=$v;',
  'flat "$(readlink /proc/self/ns/pid)"; ns=$v;',
];

const report = [
  'printf \'\\n%s begin\\n\' "$m";',
  'say() { printf \'%s %s %s\\n\' "$m" "$1" "$2"; };',
  'say type "$t"; say writable "$w"; say size "$s"; say sector "$b"; say inode "$i"; say sequence "$q"; say hardware "$hw"; say layer "$dm"; say partition "$part"; say skipbytes "$g"; say seekbytes "$u"; say fullblock "$k";',
  'say flush "$y"; say processes "$p"; say pid "$$"; say group "$o"; say machine "$h"; say boot "$x"; say space "$ns"; say used "$us"; say ready;',
];

/**
 * Finds and ends the processes of an earlier session. A process is killed only if it carries that
 * session's random name, never by its id alone. If names of dd processes cannot be read (ps), dd
 * processes of the old group are only waited for.
 */
const fence = [
  'left() { l=; case $p in',
  'proc) set +f; for a in $(grep -ls "$1" /proc/[0-9]*/cmdline /proc/[0-9]*/environ); do a=${a#/proc/}; a=${a%%/*}; [ $a = $$ ] || l="$l $a"; done; set -f;;',
  'ps) l=$(ps -A -o pid= -o ppid= -o pgid= -o args= | while read -r a b c e; do case $e in',
  '*"$2"*) printf " %s" $a;; dd\\ *) if [ "$b" = "$3" ] || [ "$c" = "$4" ]; then printf " -%s" $a; fi;; esac; done);;',
  'esac; };',
  'fence() { [ $p = none ] && { v=unknown; return; }; pattern "$1"; t1=$v; j=0;',
  // No process must be found twice in a row: a process that another one is just starting can be
  // missed once.
  'e=0; while left "$t1" "$1" "$2" "$3"; [ -n "$l" ] && e=0 || e=$((e + 1)); [ $e -lt 2 ]; do',
  '[ $j -ge 20 ] && { v=alive; return; }; j=$((j + 1)); [ $e = 0 ] || continue;',
  // "-N": only wait for it.
  'for a in $l; do case $a in -*) ;; *) kill -9 $a;; esac; done; sleep 0.05 || sleep 1; done; v=gone; };',
];

const loop = [
  // The client sends nothing after its S line before the answer. So input can be read in large
  // pieces up to there.
  'skip() { t=; while :; do e=$(dd bs=65536 count=1 | tail -c 80 | tr "\\000" x; printf .); e=${e%.}; [ -z "$e" ] && exit; t=$t$e;',
  'v=${t##*"$n"S $m }; v=${v%"$n"}; case $v in *[!0-9a-f]*) ;; *) [ ${#v} = 32 ] && return;; esac; ',
  `e=\${t%${'?'.repeat(80)}}; [ "$e" = "$t" ] || t=\${t#"$e"}; done; };`,
  'bad() { flat "$2"; printf \'\\n%s %s error %s %.300s\\n\' "$m" "$i" "$1" "$v"; skip; printf \'\\n%s sync %s skipped\\n\' "$m" "$v"; };',
  // Arguments: status, message, and whether dd counts in bytes. If it does, partial records do not
  // tell the amount.
  'check() { l=0; case "$n$2" in *"$n$x records in"*) [ $1 = 0 ] && l=1;; esac;',
  'if [ $l$3 = 11 ]; then case "$n$2" in *"$n$c byte"*) ;; *) l=0;; esac; fi;',
  'if [ $l = 1 ]; then printf \'%s %s ok\\n\' "$m" "$i"; else bad $1 "$2"; fi; };',
  'while read -r o i a b c x; do case $o in',
  'R) e=$(dd if="$d" bs=$a skip=$b count=$c $r 2>&1 >&3 3>&-); check $? "$e" $g;;',
  'W) e=$(dd of="$d" $bs$a seek=$b count=$c $z $w1 2>&1 >/dev/null 3>&-); check $? "$e" $gw;;',
  'Z) e=$(dd if=/dev/zero of="$d" bs=$a seek=$b count=$c $z $w1 2>&1 3>&-); check $? "$e" $gw;;',
  'F) if [ $y = sync ]; then e=$(sync "$d" 2>&1); else e=$(dd if=/dev/null of="$d" bs=1 count=0 $w1,fsync 2>&1); fi; s=$?; if [ $s = 0 ]; then printf \'%s %s ok\\n\' "$m" "$i"; else bad $s "$e"; fi;;',
  'K) fence "$a" "$b" "$c"; printf \'%s %s %s\\n\' "$m" "$i" "$v";;',
  'S) [ "$i" = "$m" ] && printf \'\\n%s sync %s idle\\n\' "$m" "$a";;',
  '"") ;; *) exit 2;;',
  'esac; done',
];
