#!/usr/bin/env bash
# Zip the package, choose conf/<platform>, and hand one job to spark-submit. `--help` says the rest.
# Plain bash 3.2 (macOS) and Python 3.9 (the primary node of EMR) are enough to run this file.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)

usage() {
  cat <<HELP
Usage: ./spark-submit.sh [options] JOB [-- arguments of the job]

  JOB                   a file in jobs/ or its short name: $(known_jobs)
  --platform NAME       which conf/NAME/spark-defaults.conf to use: $(known_platforms) (default: local)
  --master MASTER       Spark master (default: local[*,4] for local, else spark.master of the platform's conf)
  --conf KEY=VALUE      a Spark setting, stronger than the platform's conf; may be repeated
  --overlay rapids      add conf/rapids/overlay.conf (GPU joins and aggregates; not for extract and embed alone)
  --archive ENV.tar.gz  a packed Python environment for the cluster (default: the one that `make package PLATFORM=NAME`
                        built, where it did; --archive= leaves it out)
  --dry-run             print the command on one line, quoted for a shell; write nothing, start no Spark
  --help                this text

Example: ./spark-submit.sh run_pipeline -- --lake ./photos --tables ./tables
The exit code is that of the job, 2 when the command line or the set-up is wrong. A driver in the cluster (deploy mode
cluster) writes its code to results/ below --tables, as YARN turns every code into 1 and Kubernetes into 0; it is read there.
HELP
}

# One clear sentence, exit code 2.
refuse() {
  printf 'spark-submit.sh: %s\n' "$1" >&2
  exit 2
}

known_platforms() {
  local file names=''
  for file in "$root"/conf/*/spark-defaults.conf; do
    file=${file%/*}
    names="$names, ${file##*/}"
  done
  printf '%s' "${names#, }"
}

known_jobs() {
  local file names=''
  for file in "$root"/jobs/*.py; do
    [ -f "$file" ] || continue # no job at all: the pattern itself
    file=${file##*/}
    file=${file%.py}
    names="$names, ${file#[0-9][0-9]_}"
  done
  printf '%s' "${names#, }"
}

# The path of a job named by its file (jobs/02_extract.py) or by its short name (extract).
find_job() {
  local name=${1##*/} file
  name=${name%.py}
  case $1 in
    jobs/*) ;;
    */*) [ "$(cd "${1%/*}" 2>/dev/null && pwd -P)" = "$root/jobs" ] || return 1 ;;
  esac
  for file in "$root/jobs/$name.py" "$root"/jobs/[0-9][0-9]_"$name.py"; do
    if [ -f "$file" ]; then
      printf '%s' "$file"
      return 0
    fi
  done
  return 1
}

# The value of a Spark setting: the last --conf wins over the platform's file, as in spark-submit.
setting() {
  local pair value
  value=$(awk -v key="$1" '$1 == key { print $2 }' "$properties")
  for pair in ${confs[@]+"${confs[@]}"}; do
    case $pair in "$1="*) value=${pair#*=} ;; esac
  done
  printf '%s' "$value"
}

# spark.jars.packages of the platform's file with the Delta jar for the Spark in a folder; nothing where it fits already.
fitting_packages() {
  local home=$1 named file minor=''
  named=$(awk '$1 == "spark.jars.packages" { print $2 }' "$properties")
  for file in "$home"/jars/spark-core_2.13-[0-9]*.jar; do
    file=${file##*/spark-core_2.13-}
    case $file in *.*.*.jar) minor=${file%%.*} && file=${file#*.} && minor=$minor.${file%%.*} ;; esac
  done
  if [ -n "$minor" ] && [[ $named =~ ^(.*delta-spark_)([0-9.]+)(_2\.13:.*)$ ]] && [ "${BASH_REMATCH[2]}" != "$minor" ]; then
    printf '%s' "${BASH_REMATCH[1]}$minor${BASH_REMATCH[3]}"
  fi
}

# The value of an option among the arguments of the job; nothing where it is not there.
job_option() {
  local option=$1 value=''
  shift
  while [ $# -gt 0 ]; do
    case $1 in
      "$option="*) value=${1#*=} ;;
      "$option") value=${2:-} ;;
    esac
    shift
  done
  printf '%s' "$value"
}

# The arguments of the job, in `renamed`, with another value of an option.
rename_option() {
  local option=$1 value=$2
  shift 2
  renamed=()
  while [ $# -gt 0 ]; do
    case $1 in
      "$option="*) renamed+=("$option=$value") ;;
      "$option") renamed+=("$option" "$value") && shift ;;
      *) renamed+=("$1") ;;
    esac
    shift
  done
}

# The text of a file by its path or URI, with what is here: the cluster's Hadoop, the AWS CLI, or the package itself.
read_file() {
  local uri=$1
  case $uri in
    *://*) ;;
    *) cat "$uri" 2>/dev/null && return 0 ;;
  esac
  if command -v hadoop >/dev/null && hadoop fs -cat "$uri" 2>/dev/null; then return 0; fi
  case $uri in
    s3://* | s3a://*) if command -v aws >/dev/null && aws s3 cp --only-show-errors "s3://${uri#*://}" - 2>/dev/null; then return 0; fi ;;
  esac
  PYTHONPATH=$root "$python" -c 'import sys; from dedup_spark.store import files
sys.stdout.buffer.write(files.read_bytes(sys.argv[1]))' "$uri" 2>/dev/null
}

# Run the command, whose driver is in the cluster, and return the exit code that the driver left in its file.
run_in_cluster() {
  local file=$1 code=0 text
  shift
  "$@" || code=$?
  text=$(read_file "$file") || text=''
  if [[ $text =~ \"exit_code\":\ *([0-9]+) ]]; then
    [ "${BASH_REMATCH[1]}" = 0 ] || code=${BASH_REMATCH[1]}
  elif [ "$code" = 0 ]; then
    printf 'spark-submit.sh: the driver left no result at %s: it ended before it could, or that place cannot be read from here\n' "$file" >&2
    code=1
  fi
  return "$code"
}

# Write the package as a zip and print its path. Equal sources give equal bytes (fixed order, dates and
# modes, no compression), and the name carries their hash: a running driver, which imports from its zip
# lazily, never finds another version under the same name. A zip because --py-files cannot take a wheel.
# With --dry-run only the path is printed.
build_zip() {
  "$python" - "$root/dedup_spark" "$root/build/spark-submit" "$dry_run" <<'PYTHON'
import hashlib, io, os, sys, zipfile
from pathlib import Path

package, folder = Path(sys.argv[1]), Path(sys.argv[2])
content = io.BytesIO()
with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as archive:
    for path in sorted(package.rglob("*"), key=lambda path: path.relative_to(package).parts):
        if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith("."):
            entry = zipfile.ZipInfo(path.relative_to(package.parent).as_posix(), (1980, 1, 1, 0, 0, 0))
            entry.create_system, entry.external_attr = 3, 0o100644 << 16
            archive.writestr(entry, path.read_bytes())
target = folder / f"dedup_spark-{hashlib.sha256(content.getvalue()).hexdigest()[:12]}.zip"
if sys.argv[3] == "no" and not target.exists():
    folder.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(f".{os.getpid()}.tmp")
    partial.write_bytes(content.getvalue())
    os.replace(partial, target)
print(target)
PYTHON
}

# --- the command line -------------------------------------------------------------------------------------

platform=local master='' overlay='' archive=unnamed dry_run=no job='' confs=()
while [ $# -gt 0 ]; do
  case $1 in
    --platform=* | --master=* | --conf=* | --overlay=* | --archive=*) set -- "${1%%=*}" "${1#*=}" "${@:2}" ;;
  esac
  case $1 in
    --platform | --master | --conf | --overlay | --archive)
      [ $# -ge 2 ] || refuse "$1 needs a value; see ./spark-submit.sh --help"
      case $1 in
        --platform) platform=$2 ;;
        --master) master=$2 ;;
        --conf) confs+=("$2") ;;
        --overlay) overlay=$2 ;;
        --archive) archive=$2 ;;
      esac
      shift 2
      ;;
    --dry-run) dry_run=yes && shift ;;
    --help | -h) usage && exit 0 ;;
    --) shift && break ;;
    -*) refuse "unknown option $1; see ./spark-submit.sh --help" ;;
    *)
      [ -z "$job" ] || refuse "unexpected argument $1: put the arguments of the job after --"
      job=$1 && shift
      ;;
  esac
done

if [ "$platform" = standalone ]; then
  platform=standalone-gpu
fi
properties=$root/conf/$platform/spark-defaults.conf
if [ "$platform" = databricks ]; then
  refuse "Databricks takes a job definition, not spark-submit: see conf/databricks/README.md (spark-submit platforms: $(known_platforms))"
fi
case $platform in '' | */*) properties='' ;; esac
[ -f "$properties" ] || refuse "unknown platform '$platform'; known platforms: $(known_platforms)"
[ -n "$job" ] || refuse "name a job; known jobs: $(known_jobs)"
job_file=$(find_job "$job") || refuse "unknown job '$job'; known jobs: $(known_jobs)"
for pair in ${confs[@]+"${confs[@]}"}; do
  case $pair in ?*=*) ;; *) refuse "--conf $pair is not of the form KEY=VALUE" ;; esac
done

if [ -z "$master" ] && [ "$platform" = local ]; then
  master='local[*,4]' # the 4: a local master retries a failed task only when it is told how often
fi
case ${master:-$(setting spark.master)} in
  local | local\[* | local-cluster\[*) on_this_machine=yes ;;
  *) on_this_machine=no ;;
esac

in_cluster=no
if [ "$on_this_machine" = no ] && [ "$(setting spark.submit.deployMode)" = cluster ]; then in_cluster=yes; fi

if [ "$archive" = unnamed ]; then
  archive=''
  built=$root/build/package/$platform/environment.tar.gz
  if [ "$on_this_machine" = no ] && [ -f "$built" ]; then archive=$built; fi
fi

# --- what runs it -----------------------------------------------------------------------------------------

venv=$root/.venv
if [ -x "$venv/bin/python" ]; then
  python=$venv/bin/python
else
  python=$(command -v python3) || refuse "no .venv/bin/python and no python3 on the PATH: install Python 3.12 or 3.13"
fi

environment=() spark_home=${SPARK_HOME:-}
if [ -n "$spark_home" ]; then
  submit=$SPARK_HOME/bin/spark-submit
  [ -x "$submit" ] || refuse "SPARK_HOME=$SPARK_HOME has no bin/spark-submit: correct it or unset it"
elif [ -x "$venv/bin/spark-submit" ]; then
  submit=$venv/bin/spark-submit
  # Named here, because pip's spark-submit looks for its own folder with the python3 of the PATH.
  spark_home=$("$python" "$venv/bin/find_spark_home.py") || refuse ".venv/bin/spark-submit is there but its pyspark is not: make the environment again"
  environment+=("SPARK_HOME=$spark_home")
else
  submit=$(command -v spark-submit) || refuse "no spark-submit in SPARK_HOME/bin, in .venv/bin or on the PATH: install pyspark or set SPARK_HOME"
  spark_home=$("$python" -c 'import os, sys; print(os.path.dirname(os.path.dirname(os.path.realpath(sys.argv[1]))))' "$submit")
fi
if [ "$on_this_machine" = yes ]; then
  # Otherwise Spark binds to whatever the host name resolves to, which on a laptop changes with the network.
  environment+=("SPARK_LOCAL_IP=${SPARK_LOCAL_IP:-127.0.0.1}")
  if [ -x "$venv/bin/python" ]; then
    environment+=("PYSPARK_PYTHON=$venv/bin/python" "PYSPARK_DRIVER_PYTHON=$venv/bin/python")
  fi
fi

# --- the command ------------------------------------------------------------------------------------------

package=$(build_zip) || refuse "could not write the package into $root/build/spark-submit (the error is above)"
command=("$submit")
if [ ${#environment[@]} -gt 0 ]; then
  command=(env "${environment[@]}" "$submit")
fi
if [ -n "$master" ]; then
  command+=(--master "$master")
fi
command+=(--properties-file "$properties")
if [ "$platform" = local ]; then
  command+=(--conf "spark.sql.warehouse.dir=$root/build/spark-warehouse") # else one appears where you stand
else
  # Without it --properties-file replaces the cluster's own spark-defaults.conf (class paths, event log).
  command+=(--load-spark-defaults)
fi
packages=$(fitting_packages "$spark_home")
if [ -n "$packages" ]; then
  command+=(--conf "spark.jars.packages=$packages")
fi
command+=(--py-files "$package")
files=()
case $(setting spark.executor.resource.gpu.discoveryScript) in
  ./*) files+=("$root/conf/getGpusResources.sh") ;; # a script in the executor's working folder
esac
# A driver in the cluster finds the settings file of this machine in its working folder.
config_file=$(job_option --config "$@")
if [ "$in_cluster" = yes ] && [ -n "$config_file" ]; then
  case $config_file in
    *://*) ;;
    *)
      [ -f "$config_file" ] || refuse "--config $config_file: no such file"
      files+=("$config_file")
      rename_option --config "${config_file##*/}" "$@"
      set -- "${renamed[@]}"
      ;;
  esac
fi
if [ ${#files[@]} -gt 0 ]; then
  command+=(--files "$(IFS=, && printf '%s' "${files[*]}")")
fi

if [ -n "$archive" ]; then
  case ${master:-cluster} in
    local | local\[*) refuse "--archive is for executors in processes of their own; master $master runs in this one: leave it out" ;;
  esac
  case $archive in
    *://*) ;;
    *) [ -f "$archive" ] || refuse "--archive $archive: no such file" ;;
  esac
  command+=(--archives "$archive#environment" --conf spark.pyspark.python=./environment/bin/python)
  if [ "$(setting spark.submit.deployMode)" != cluster ]; then
    command+=(--conf "spark.pyspark.driver.python=$python") # the driver stays here, where nothing is unpacked
  fi
fi

if [ -n "$overlay" ]; then
  case $overlay in */* | .*) refuse "unknown overlay '$overlay'; known overlays: rapids" ;; esac
  overlay_file=$root/conf/$overlay/overlay.conf
  [ -f "$overlay_file" ] || refuse "unknown overlay '$overlay'; known overlays: rapids"
  case ${job_file##*/} in
    *extract.py | embed.py) refuse "--overlay $overlay does nothing for $job, whose rows come from Python, and takes GPU memory from the model: leave it out" ;;
  esac
  while read -r key value; do
    case $key in '' | '#'*) ;; *) command+=(--conf "$key=$value") ;; esac
  done <"$overlay_file"
fi
for pair in ${confs[@]+"${confs[@]}"}; do
  command+=(--conf "$pair")
done
command+=("$job_file" "$@")

# What such a driver prints, and writes to a path, is in its container, which ends with it.
if [ "$in_cluster" = yes ]; then
  name=${job_file##*/} out=$(job_option --out "$@")
  name=${name%.py}
  case $name in calibrate | verify_removal) out=${out:-the file in its working folder} ;; esac
  case $name in sql | trace | explain | dendrogram | plan) out=${out:-what it prints} ;; esac
  case $out in
    '' | *://*) ;;
    *) printf 'spark-submit.sh: %s of %s is where the driver runs, in a container of the cluster: start it here (--conf spark.submit.deployMode=client); sql, trace, explain and dendrogram need no Spark (docs/commands.md)\n' "$out" "$name" >&2 ;;
  esac
fi

# A job whose driver is elsewhere leaves its exit code in a file, unless nobody waits for its end.
result='' tables=$(job_option --tables "$@")
waits=$(setting spark.yarn.submit.waitAppCompletion)$(setting spark.kubernetes.submission.waitAppCompletion)
if [ "$in_cluster" = yes ] && [ -n "$tables" ] && [[ $waits != *false* ]]; then
  name=$(job_option --result "$@")
  if [ -z "$name" ]; then
    name=submit-$$-$RANDOM$RANDOM
    command+=(--result "$name")
  fi
  result=${tables%/}/results/$name.json
fi

if [ "$dry_run" = yes ]; then
  printf -v line '%q ' "${command[@]}"
  printf '%s\n' "${line% }"
elif [ -n "$result" ]; then
  run_in_cluster "$result" "${command[@]}"
else
  exec "${command[@]}"
fi
