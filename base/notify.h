/* sd_notify without systemd's library: a datagram to $NOTIFY_SOCKET, if there is one. Whether somebody hears it is not
 * told: a program works the same without. From any thread, while nobody changes the environment. */
#ifndef BASE_NOTIFY_H
#define BASE_NOTIFY_H

void notify_say(const char *text);        /* "READY=1"; lines; at most 255 bytes */
void notify_fd(const char *text, int fd); /* with a descriptor, which stays the caller's */
#endif
