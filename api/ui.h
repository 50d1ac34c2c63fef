/* The web page's files, built in (cmake/ui.cmake makes the table from ui/). */
#ifndef API_UI_H
#define API_UI_H
#include <stddef.h>

struct ui_file {
    const char *name, *etag; /* etag: in its quotes, of the content */
    const unsigned char *p;
    size_t len;
};
extern const struct ui_file ui_files[]; /* ended by a name of NULL */

#endif
