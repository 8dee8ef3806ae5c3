#!/bin/bash
# What does the one machine of the cluster need? The repository, Python 3.11 with the locked packages, and the durable folder.
#   bootstrap.sh s3://BUCKET/stillpoint.tar.gz EFS_ID EFS_ACCESS_POINT
set -euo pipefail
archive=$1
file_system=$2
access_point=$3
sudo dnf install --assumeyes python3.11 amazon-efs-utils
sudo mkdir -p /opt/stillpoint /mnt/stillpoint
sudo mount -t efs -o "tls,iam,accesspoint=$access_point" "$file_system:/" /mnt/stillpoint
sudo chown hadoop /opt/stillpoint
aws s3 cp "$archive" - | tar -xz -C /opt/stillpoint
python3.11 -m venv /opt/stillpoint/.venv
/opt/stillpoint/.venv/bin/pip install --no-cache-dir --no-deps --require-hashes -r /opt/stillpoint/requirements.lock
