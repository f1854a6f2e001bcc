#include "comm/control_link.h"
pr_status
pr_control_ucx_create(pr_world *world, pr_control *control, bool quiet, pr_control_link **link)
{
    (void)world;
    (void)control;
    (void)quiet;
    (void)link;
    return PR_ERR_UNSUPPORTED;
}
