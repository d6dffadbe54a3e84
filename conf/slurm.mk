# What LAUNCH=slurm has to know about the site, clip-cid-cluster(7): take the comment signs away and put your figures in. A data
# set's conf file may say otherwise. Processors and memory here are those of T_read, T_embed and MEM there.

# Options of sbatch for every job: account, partition, mail.
# SBATCH := --account=me --partition=long

# Options for each class of stages: reading (index, report), models over shards (embed, labels, eval), and what takes all of a
# machine (cells, balance, centroids, training). SBATCH_index, SBATCH_embed, SBATCH_train and so on stand for a single stage.
# SBATCH_cpu := -c 4 --mem=8G --time=4:00:00
# SBATCH_gpu := -c 8 --mem=32G --time=4:00:00 --gres=gpu:1
# SBATCH_train := -c 32 --mem=96G --time=24:00:00 --gres=gpu:1

# The job of `submit`, which waits.
# SBATCH_wait := -c 1 --mem=2G --time=7-0

# A line of shell at the start of every job.
# JOB_SETUP := module load cuda/12
