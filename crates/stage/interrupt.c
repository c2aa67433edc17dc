/* Lets `make run` end with exit status 0 on SIGINT: loaded into GNU make itself, whose own handler would end it by the
 * signal however orderly its child stopped. An interrupt is passed on to the children; what they return is what make returns. */
#include <signal.h>
#include <stdio.h>

int plugin_is_GPL_compatible;

static void pass_on(int number)
{
    FILE *children = fopen("/proc/thread-self/children", "r");
    int child;
    if (!children)
        return;
    while (fscanf(children, "%d", &child) == 1)
        kill(child, number);
    fclose(children);
}

int interrupt_gmk_setup(void)
{
    struct sigaction action = {0};
    action.sa_handler = pass_on;
    action.sa_flags = SA_RESTART;
    return sigaction(SIGINT, &action, NULL) == 0;
}
