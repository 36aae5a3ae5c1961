-- Names of VPCs go by the feed: nobody visits them any more.
DELETE FROM core_due WHERE loop = 'names';
