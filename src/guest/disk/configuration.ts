/**
 * The configuration that a minimal Debian needs to reach a login prompt before its packages are
 * configured: accounts, PAM, host names, fstab, init. It corresponds to what the packages' scripts
 * would create, reduced to one user on one computer.
 *
 * Specification: passwd(5), group(5), shadow(5), pam.conf(5), inittab(5), fstab(5),
 * sources.list(5); the postinst scripts of base-files and libpam-runtime.
 *
 * Left out: SysV run levels and their scripts, which `dpkg --configure` creates.
 */

/** The account that can log in, and its password. */
export const login = { user: 'root', password: 'farbus' } as const;
/**
 * crypt(5) hash of the password. SHA-256, because stronger hashes take long on the emulated
 * processor, and the password is no secret.
 */
const passwordHash = '$5$farbus$9ByrHH7ti47ppyz/pR7K1fbvSRFAb4sfs/u8pyT2Pm2';

/**
 * Label of the root file system. The kernel and fstab find it by label, on whatever bus the disk
 * is.
 */
export const rootLabel = 'farbus-root';
export const hostname = 'diskless';

const auth = 'auth [success=1 default=ignore] pam_unix.so nullok\n';
const account = 'account [success=1 new_authtok_reqd=done default=ignore] pam_unix.so\n';
const password = 'password [success=1 default=ignore] pam_unix.so obscure yescrypt\n';
const session = 'session required pam_permit.so\nsession required pam_unix.so\n';
const otherwise = (kind: string): string => `${kind} requisite pam_deny.so\n${kind} required pam_permit.so\n`;

/** Contents of files by path. Mode 644 and owner root unless `modes` or `groups` differ. */
const files: Readonly<Record<string, string>> = {
  'etc/hostname': `${hostname}\n`,
  'etc/hosts': `127.0.0.1 localhost\n127.0.1.1 ${hostname}\n`,
  'etc/fstab': `LABEL=${rootLabel} / ext4 defaults,noatime 0 1\n`,
  'etc/nsswitch.conf': 'passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n',
  'etc/shells': '/bin/sh\n/bin/bash\n/bin/dash\n',
  'etc/environment': '',
  'etc/apt/sources.list': 'deb http://deb.debian.org/debian bookworm main\n',
  'etc/pam.d/common-auth': auth + otherwise('auth'),
  'etc/pam.d/common-account': account + otherwise('account'),
  'etc/pam.d/common-password': password + otherwise('password'),
  'etc/pam.d/common-session': session,
  'etc/pam.d/common-session-noninteractive': session,
  'var/log/wtmp': '',
  'var/log/btmp': '',
  'var/log/lastlog': '',
  'etc/inittab': `# init(8): one script at the start, one at the end, a login on the serial port and one on the screen.
id:2:initdefault:
si::sysinit:/etc/rc.start
l0:0:wait:/etc/rc.stop poweroff
l6:6:wait:/etc/rc.stop reboot
ca:12345:ctrlaltdel:/sbin/shutdown -r now
S0:2345:respawn:/sbin/getty -L 115200 ttyS0 vt100
1:2345:respawn:/sbin/getty --noclear 38400 tty1 linux
`,
  'etc/rc.start': `#!/bin/sh
# The start of the system: /dev, /proc, /run and /sys are mounted by the initramfs.
mount -o remount,rw /
mkdir -p /run/lock /dev/pts /dev/shm
chmod 1777 /run/lock
mount -t devpts -o gid=5,mode=620 devpts /dev/pts
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs /dev/shm
[ ! -d /sys/firmware/efi/efivars ] || mount -t efivarfs efivarfs /sys/firmware/efi/efivars
hostname -F /etc/hostname
: >/run/utmp
`,
  'etc/rc.stop': `#!/bin/sh
# The end: $1 is poweroff or reboot. Nothing is written when the file system is read-only, so that the disk can be left.
kill -TERM -1
sync
kill -KILL -1
mount -o remount,ro /
exec "$1" -f
`,
};

const modes: Readonly<Record<string, number>> = {
  'etc/rc.start': 0o755,
  'etc/rc.stop': 0o755,
  'var/log/wtmp': 0o664,
  'var/log/btmp': 0o660,
  'var/log/lastlog': 0o664,
  'etc/shadow': 0o640,
  'etc/gshadow': 0o640,
};

/** Group numbers from base-passwd's group.master: shadow 42, utmp 43. */
const groups: Readonly<Record<string, number>> = {
  'etc/shadow': 42,
  'etc/gshadow': 42,
  'var/log/wtmp': 43,
  'var/log/btmp': 43,
  'var/log/lastlog': 43,
};

/** Empty folders. Mode 755 unless `modes` differs. */
const folders: readonly string[] = ['mnt', 'srv', 'opt', 'media', 'proc', 'sys', 'dev', 'run'];

/** Symbolic links: path and target. */
const links: Readonly<Record<string, string>> = {
  'etc/mtab': '../proc/self/mounts',
  'etc/alternatives/awk': '/usr/bin/mawk',
  'usr/bin/awk': '/etc/alternatives/awk',
  'etc/localtime': '/usr/share/zoneinfo/Etc/UTC',
};

/** Files to copy: source in base-files, and destination. */
const copies: Readonly<Record<string, string>> = {
  'usr/share/base-files/dot.profile': 'root/.profile',
  'usr/share/base-files/dot.bashrc': 'root/.bashrc',
  'usr/share/base-files/profile': 'etc/profile',
  'usr/share/base-files/motd': 'etc/motd',
};

/**
 * GRUB's configuration. The parameters are those of a kernel that is loaded directly;
 * debian.node.ts explains them. On a 64-bit computer of ours, the firmware shows on the serial port
 * what GRUB prints on the screen, so GRUB must use only one of them.
 * @param both use the screen and the serial port
 */
export function grubConfig(both: boolean): string {
  return `# What GRUB does at each boot. Its console is ${both ? 'the screen and ' : ''}the first serial port.
serial --unit=0 --speed=115200
terminal_input console serial
terminal_output ${both ? 'console ' : ''}serial
linux /boot/vmlinuz root=LABEL=${rootLabel} ro console=tty1 console=ttyS0,115200 quiet cryptomgr.notests tsc=reliable no_timer_check
initrd /boot/initrd.img
boot
`;
}

/** All of the above but GRUB's. The image's cache key includes it. */
export const configuration = { files, modes, groups, folders, links, copies } as const;

/** passwd(5) and shadow(5) from base-passwd's master file. Only root gets a password. */
export function accounts(master: string): { passwd: string; shadow: string } {
  const users = master.split('\n').filter((line) => line !== '');
  return {
    passwd: users.map((line) => `${line.replace(/:\*:/, ':x:')}\n`).join(''),
    shadow: users
      .map((line) => line.split(':')[0]!)
      .map((name) => `${name}:${name === login.user ? passwordHash : '*'}:19000:0:99999:7:::\n`)
      .join(''),
  };
}

/** group(5) and gshadow(5) from base-passwd's master file. */
export function groupFiles(master: string): { group: string; gshadow: string } {
  const names = master.split('\n').filter((line) => line !== '');
  return {
    group: names.map((line) => `${line.replace(/:\*:/, ':x:')}\n`).join(''),
    gshadow: names.map((line) => `${line.split(':')[0]!}:*::\n`).join(''),
  };
}
