#!/usr/bin/env bash
# EMR bootstrap action: it mounts the cgroup v1 `devices` hierarchy through which YARN isolates GPUs, as the
# system of EMR 7 and later mounts only cgroup v2. The path is the one in configurations.json.
set -euo pipefail

sudo mkdir -p /spark-rapids-cgroup/devices
sudo mount -t cgroup -o devices cgroupv1-devices /spark-rapids-cgroup/devices
sudo chmod -R a+rwx /spark-rapids-cgroup
