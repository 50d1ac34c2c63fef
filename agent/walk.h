/* A path, walked from folder to folder, for an agent that is root and writes where others may write too: a symbolic
 * link on the way is followed if root or we made it. Anybody else's could lead us to where he may not write himself.
 */
#ifndef AGENT_WALK_H
#define AGENT_WALK_H
#include <stdbool.h>

/* Like open(path, flags). O_NOFOLLOW: a link at the path's end is not followed, whoever made it. make: folders that
 * are missing are made, of mode 0755 whatever the umask, the last one included. -1 with errno; ELOOP: a link that is
 * not followed. */
int walk_open(const char *path, int flags, bool make);

#endif
