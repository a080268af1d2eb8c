/* A make function: $(become COMMAND) replaces make itself by a shell that runs COMMAND.
 *
 * `make run` must end with status 0 when make is asked to stop, but GNU make, whatever its recipe does, dies of the
 * signal. So make becomes the supervisor: same process, the supervisor's signals and status (docs/adr/0010).
 * No headers, no library: everything it calls is in make or in the C library that make has loaded.
 */
int plugin_is_GPL_compatible; /* required by make's loader */

typedef char *(*gmk_func_ptr)(const char *name, unsigned int count, char **words);
void gmk_add_function(const char *name, gmk_func_ptr function, unsigned int min, unsigned int max, unsigned int flags);
int execl(const char *path, const char *word, ...);

static char *become(const char *name, unsigned int count, char **words)
{
    (void)name;
    (void)count;
    execl("/bin/sh", "sh", "-c", words[0], (char *)0);
    return 0; /* not replaced: the recipe's next line runs the command as make's child */
}

int become_gmk_setup(void)
{
    gmk_add_function("become", become, 1, 1, 0);
    return 1;
}
